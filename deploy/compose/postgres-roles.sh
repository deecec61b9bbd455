#!/bin/bash
# Run once by PostgreSQL's image, on an empty volume: makes the two roles and the database of docs/postgres.md.
set -euo pipefail

# Gives the password in the address that a secret holds.
password_of() { sed 's|.*:\([^:@]*\)@.*|\1|' "/run/secrets/$1"; }

owner=$(password_of database_admin_url) app=$(password_of database_url) \
    psql --username=postgres --no-psqlrc --quiet --set=ON_ERROR_STOP=1 <<'END'
\getenv owner owner
\getenv app app
CREATE ROLE chatcore_owner LOGIN PASSWORD :'owner';
CREATE ROLE chatcore_app LOGIN PASSWORD :'app';
CREATE DATABASE chatcore OWNER chatcore_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE chatcore FROM PUBLIC;
GRANT CONNECT ON DATABASE chatcore TO chatcore_app;
END
