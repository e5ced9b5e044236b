"""The weights of the small networks (see `topo_utils.candidates`), and what makes them again."""
