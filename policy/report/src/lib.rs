//! What the policy grants, printed; what a running VM holds, compared with it.
