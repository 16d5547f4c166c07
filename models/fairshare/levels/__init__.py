"""The policies that raise all jobs together: water filling, alone or by tenants, and how far a level falls short."""
