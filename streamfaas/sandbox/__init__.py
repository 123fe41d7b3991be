"""What a worker may touch: kernel calls between fork and the handler, standard library only."""
