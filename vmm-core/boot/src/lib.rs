//! Loading a kernel: PVH ELF and bzImage, initrd, command line, E820, ACPI tables.
