# All images. docker/bake [TARGET ...] calls this with what comes from git.

variable "TAG" {
  default = "local"
}

variable "VERSION" {
  default = "0.1.0"
}

# The commit that a release is made of. Not on other builds: every commit would give unchanged images another digest.
variable "REVISION" {
  default = ""
}

# What all images begin with; by its digest (debian@sha256:...), each build begins with the same.
variable "BASE_IMAGE" {
  default = "debian:trixie-slim"
}

# Networks that re-sign TLS: the CA bundle that this names is trusted during the build, and is not in the image.
variable "SSL_CERT_FILE" {
  default = ""
}

group "default" {
  targets = ["node", "notebook", "gateway"]
}

group "cross" {
  targets = ["node-cross", "notebook-cross", "gateway-cross"]
}

group "release" {
  targets = ["node-release", "notebook-release", "gateway-release"]
}

target "_common" {
  context = "."
  args    = { BASE = BASE_IMAGE }
  secret  = SSL_CERT_FILE == "" ? [] : ["id=ca,src=${SSL_CERT_FILE}"]
  # A provenance attestation gives every build another digest.
  attest = ["type=provenance,disabled=true"]
  # The engine runs no image with layers of zstd, and the builder would take those that a deployment has made.
  output = ["type=image,compression=gzip,force-compression=true"]
}

target "_metadata" {
  labels = {
    "org.opencontainers.image.vendor"   = "tritoncluster"
    "org.opencontainers.image.licenses" = "BSD-3-Clause"
    "org.opencontainers.image.version"  = VERSION
  }
}

target "_cross" {
  platforms = ["linux/amd64", "linux/arm64"]
}

target "_release" {
  inherits = ["_cross"]
  labels = {
    "org.opencontainers.image.revision" = REVISION
  }
  attest = ["type=provenance,mode=max"]
}

target "node" {
  inherits   = ["_common", "_metadata"]
  dockerfile = "docker/Dockerfile"
  target     = "node"
  tags       = ["tritoncluster/node:${TAG}"]
  labels = {
    "org.opencontainers.image.title"       = "tritoncluster node"
    "org.opencontainers.image.description" = "Dask scheduler, worker and workload of a tritoncluster"
  }
}

target "node-cross" {
  inherits = ["node", "_cross"]
}

target "node-release" {
  inherits = ["node", "_release"]
}

target "notebook" {
  inherits = ["node"]
  target   = "notebook"
  tags     = ["tritoncluster/notebook:${TAG}"]
  labels = {
    "org.opencontainers.image.title"       = "tritoncluster notebook"
    "org.opencontainers.image.description" = "JupyterLab on the node image of a tritoncluster"
  }
}

target "notebook-cross" {
  inherits = ["notebook", "_cross"]
}

target "notebook-release" {
  inherits = ["notebook", "_release"]
}

target "gateway" {
  inherits = ["_common", "_metadata"]
  context  = "docker/gateway"
  tags     = ["tritoncluster/gateway:${TAG}"]
  labels = {
    "org.opencontainers.image.title"       = "tritoncluster gateway"
    "org.opencontainers.image.description" = "TLS and a password in front of the dashboard and metrics of a tritoncluster"
  }
}

target "gateway-cross" {
  inherits = ["gateway", "_cross"]
}

target "gateway-release" {
  inherits = ["gateway", "_release"]
}
