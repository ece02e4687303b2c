"""What evidence is compared with: reference values, demands, vendor roots, initdata documents."""
