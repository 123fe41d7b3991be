"""Records out of Apache Kafka: whole batches from the broker to the worker, unopened."""
