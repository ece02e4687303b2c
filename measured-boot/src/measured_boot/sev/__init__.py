"""AMD SEV, SEV-ES and SEV-SNP: the digest that the security processor makes of a launch."""
