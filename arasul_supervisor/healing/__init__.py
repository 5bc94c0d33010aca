"""From symptoms to cures: witnesses, a diagnosis that names its evidence, and the gentlest cure that works."""
