SELECT coalesce(current_setting('pgflow.events', true) = 'notify', false) AS notifies
