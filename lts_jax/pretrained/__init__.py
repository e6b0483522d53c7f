"""Other people's weights: Darknet53 and word vectors, from the files that they come in."""
