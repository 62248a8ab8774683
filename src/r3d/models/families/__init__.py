"""A module a family of networks, each with a function `build(architecture)`."""
