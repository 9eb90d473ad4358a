"""The files of whole slides: who opens which, and how many stay open."""
