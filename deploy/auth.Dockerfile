# The better-auth server of compose.yaml: the program that the tests use. A real set-up has its own.

FROM node:22.20.0-bookworm-slim

WORKDIR /opt/auth
COPY tests/auth_server/package.json tests/auth_server/package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && npm cache clean --force
COPY tests/auth_server/*.js ./

USER 10001:10001
EXPOSE 3000
CMD ["node", "hashed.js"]
