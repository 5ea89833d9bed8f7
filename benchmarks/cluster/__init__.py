"""A cluster of several Ray nodes on this machine, and what it proves of the manifests' Serve config."""
