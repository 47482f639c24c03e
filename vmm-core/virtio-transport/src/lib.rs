//! The virtio 1.x PCI transport with MSI-X.
