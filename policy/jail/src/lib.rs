//! The jail: namespaces, empty root, capabilities, limits and cgroups of a child.
