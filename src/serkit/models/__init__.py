"""Networks: Batch in, Outputs out; they know no file, no configuration and no loss."""
