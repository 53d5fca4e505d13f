"""Ways to run an exported file. Every module without a leading underscore is a member."""
