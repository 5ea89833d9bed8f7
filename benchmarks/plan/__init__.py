"""How many replicas of each deployment a load needs: the graph simulated with measured times and the real policies."""
