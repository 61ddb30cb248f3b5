SELECT pgflow.delete_flow_and_data(b.flow_slug) FROM pgflow.batches AS b WHERE b.name = %(name)s
