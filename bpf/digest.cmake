# Writes the SHA-256 of OBJECT into the header DIGEST.
file(SHA256 ${OBJECT} digest)
file(WRITE ${DIGEST} "#pragma once\ninline constexpr char kXdpObjectDigest[] = \"${digest}\";\n")
