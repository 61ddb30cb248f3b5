SELECT now() AS at, current_setting('server_version') AS version
