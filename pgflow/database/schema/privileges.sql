-- Nobody but the owner may use the schema until roles are granted what they need.
REVOKE ALL ON SCHEMA pgflow FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pgflow FROM PUBLIC;
