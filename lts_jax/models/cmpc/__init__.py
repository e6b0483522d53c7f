"""CMPC (Huang et al., CVPR 2020): comprehends entities, then relations, then merges all levels.

Notation as in the CMPC paper: L = {l_t} words, q the vector of entity and attribute words, s that
of all necessary words, V image features of a level, M multimodal features (the nodes of a graph),
A the graph's adjacency, X the features of a level. B batch, N = H/8 · W/8 cells, T words.

Sizes and order of operations follow the code that the authors published, which differs from the
paper in the features that are concatenated after the graph. Their code processes one sentence at a
time; in this implementation, padding has no influence.
"""
