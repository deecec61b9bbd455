# One target for each main: Python, the packages of that main's requirements, chatcore, and nothing else.
#
#   docker build --target stateless --tag chatcore:stateless .
#   docker build --target sqlite --tag chatcore:sqlite .
#   docker build --target postgres --tag chatcore:postgres .
#
# SQLite mode keeps its file in /data, which is a volume:
#
#   docker run --publish 8000:8000 --env-file chatcore.env --volume chatcore-data:/data chatcore:sqlite
#
# PostgreSQL mode keeps there what it could not yet write to the database; give each instance a volume of its own.
#
# Behind a package mirror, pip's configuration is lent to the build and leaves no trace in the image:
#
#   docker build --secret id=pip.conf,src=/etc/pip.conf --target stateless --tag chatcore:stateless .

FROM docker.io/library/python:3.11-slim AS python


# What every image runs on: without pip and what belongs to it, and with the bytecode of the standard library, which
# the official image leaves out and a read-only container could never write.
FROM python AS runtime
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip setuptools wheel \
    && stdlib="$(python -c 'import os; print(os.path.dirname(os.__file__))')" \
    && rm -rf "$stdlib/ensurepip" "$stdlib/idlelib" "$stdlib/lib2to3" "$stdlib/turtledemo" \
    && python -m compileall -q -x '/(site|dist)-packages/|/test/' "$stdlib" \
    && mkdir /app
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
# A number, so that Kubernetes can tell that it is not root (runAsNonRoot) without reading /etc/passwd.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# The port inside the container is API_PORT; a bare socket answers in a third of the time that urllib takes to load.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import os, socket\ns = socket.create_connection(('localhost', int(os.environ.get('API_PORT') or 8000)), 4)\ns.sendall(b'GET /health/live HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')\nraise SystemExit(s.recv(12) != b'HTTP/1.1 200')"]
LABEL org.opencontainers.image.description="A self-hosted chat proxy between a public website and an n8n webhook" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.vendor="chatcore contributors" \
      org.opencontainers.image.licenses="MIT"


# Installs and compiles what all mains share: chatcore, and the packages of stateless mode, to which the others only add.
# Its pip and its caches stay behind.
FROM python AS build
COPY requirements-stateless.txt /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
        --requirement /build/requirements-stateless.txt
# --build-arg TRACES=yes adds the package that traces need (docs/tracing.md).
ARG TRACES=""
COPY requirements-tracing.txt /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    test -z "$TRACES" || pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
        --requirement /build/requirements-tracing.txt
COPY chatcore/ /app/chatcore/
# Bytecode that does not look at its source's time is good wherever the image goes; the umask of whoever builds is not.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app/chatcore \
    && chmod -R u=rwX,go=rX /app /opt/venv


FROM build AS stateless-build
COPY --chmod=644 main_stateless.py /app/


FROM build AS sqlite-build
COPY requirements-sqlite.txt /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
        --requirement /build/requirements-sqlite.txt \
    && chmod -R u=rwX,go=rX /opt/venv
COPY --chmod=644 main_sqlite.py /app/


# Adds to the packages of SQLite mode, as its requirements do.
FROM build AS postgres-build
COPY requirements-sqlite.txt /build/
COPY requirements.txt /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \
    pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
        --requirement /build/requirements-sqlite.txt --requirement /build/requirements.txt \
    && chmod -R u=rwX,go=rX /opt/venv
COPY --chmod=644 main_postgres.py /app/


FROM runtime AS stateless
LABEL org.opencontainers.image.title="chatcore (stateless)"
COPY --from=stateless-build /opt/venv /opt/venv
COPY --from=stateless-build /app /app
ENTRYPOINT ["python", "main_stateless.py"]


FROM runtime AS sqlite
LABEL org.opencontainers.image.title="chatcore (sqlite)"
# An engine gives a new named volume the owner and the mode of the folder that it covers. All in it is private: the
# file, its log, and the secrets that are made at the first start.
USER 0
RUN install --directory --mode=0700 --owner=10001 --group=10001 /data
USER 10001:10001
ENV SQLITE_DB_PATH=/data/chat_sessions.db
COPY --from=sqlite-build /opt/venv /opt/venv
COPY --from=sqlite-build /app /app
VOLUME ["/data"]
ENTRYPOINT ["python", "main_sqlite.py"]


FROM runtime AS postgres
LABEL org.opencontainers.image.title="chatcore (postgres)"
USER 0
RUN install --directory --mode=0700 --owner=10001 --group=10001 /data
USER 10001:10001
ENV SPOOL_PATH=/data/spool.db
COPY --from=postgres-build /opt/venv /opt/venv
COPY --from=postgres-build /app /app
VOLUME ["/data"]
ENTRYPOINT ["python", "main_postgres.py"]
