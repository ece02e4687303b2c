"""Programs that run under the guest's interpreter in the guest's root, natively."""
