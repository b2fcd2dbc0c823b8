"""What runs the product: jars, local services, set-up."""
