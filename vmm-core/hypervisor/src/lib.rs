//! The trait every engine implements, and the KVM engine.
