//! The machine: buses, PCIe host, IOAPIC, UART, RTC, ACPI devices.
