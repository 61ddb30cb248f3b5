SELECT flow_slug FROM pgflow.flows ORDER BY flow_slug
