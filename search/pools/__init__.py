"""Where candidates are evaluated: in this process, or on Ray actors of this machine or a cluster."""
