//! Links of a WAN, in network namespaces.
