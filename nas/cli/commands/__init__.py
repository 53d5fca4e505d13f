"""The commands of `nas`: each module is a command or a group of them; `nas.cli.main` puts them together."""
