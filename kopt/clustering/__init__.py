from kopt import _registry
from kopt.clustering.centroid_initialization import (
    CentroidInitialization as CentroidInitialization,
)
from kopt.clustering.cluster import cluster_weights as cluster_weights
from kopt.clustering.report import clustering_report as clustering_report
from kopt.clustering.strip import strip_clustering as strip_clustering

__all__ = _registry.names("clustering")
