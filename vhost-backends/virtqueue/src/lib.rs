//! Virtqueues as a device sees them: split and packed, checked once.
