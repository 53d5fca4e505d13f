"""Ways to learn from a teacher: each module without a leading underscore is one, ends with `LESSON`, and is a word."""
