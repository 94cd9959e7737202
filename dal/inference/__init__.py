"""What a fitted network says of many samples: the pool pass, gradient lengths, dropout masks."""
