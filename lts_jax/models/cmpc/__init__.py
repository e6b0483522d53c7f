"""CMPC (Huang et al., CVPR 2020): entities first, then their relations, then one map of all levels.

Notation as in the CMPC paper: L = {l_t} words, q the vector of entity and attribute words, s that
of all necessary words, V image features of a level, M multimodal features (the nodes of a graph),
A the graph's adjacency, X the features of a level. B batch, N = H/8 · W/8 cells, T words.

Sizes and the order of operations are those of the code that the authors published, which
differs from the paper in what is put together behind the graph. The code takes one sentence at a
time; here padded words have no influence.
"""
