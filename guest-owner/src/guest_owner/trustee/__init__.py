"""Our registrations and policy in the forms that Trustee's KBS, AS and RVPS load."""
