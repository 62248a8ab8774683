"""What is wrong with lists, folders and videos, said before any work is done on them."""
