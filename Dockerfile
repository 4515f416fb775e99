# The service, from the wheel. Build the wheel first, beside this file:
#
#   python -m pip install hatchling && python -m hatchling build --target wheel
#   docker build -t idemvox .
#   docker run -p 127.0.0.1:8000:8000 -e IDEMVOX_API_KEY="$(openssl rand -hex 24)" \
#       -v /path/to/run/model:/model:ro -v idemvox-data:/data idemvox
#
# Inside the container the service listens on every address, so it does not start without an API key. With
# 127.0.0.1 before the port, as above, only this machine reaches it; to open it to others, put a proxy that does
# HTTPS in front, or mount a certificate and add --tls-certificate and --tls-key. The volume /data holds the
# speakers; the audit log goes to the container's log. On a GPU, leave PIP_EXTRA_INDEX_URL empty.
FROM python:3.13-slim

ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY constraints.txt dist/idemvox-*.whl /tmp/
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /tmp/idemvox-*.whl)[serve,torch,onnx]" \
    && rm /tmp/idemvox-*.whl /tmp/constraints.txt \
    && useradd --uid 10001 --create-home idemvox \
    && install --directory --owner idemvox --group idemvox --mode 700 /data

USER idemvox
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["idemvox", "serve", "/model", "--host", "0.0.0.0", "--audit-log", "-"]
