"""Groups of vectors: spherical k-means, agglomeration, whitening."""
