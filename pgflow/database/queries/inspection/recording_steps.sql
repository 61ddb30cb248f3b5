SELECT k.step_slug FROM pgflow.recording_steps AS k WHERE k.flow_slug = %(flow_slug)s
