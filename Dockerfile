# syntax=docker/dockerfile:1
# The images of Quorate, from scratch: one static binary each, not root.
#   docker buildx build --platform linux/amd64,linux/arm64 --target operator -t REGISTRY/operator:TAG .
#   docker buildx build --platform linux/amd64,linux/arm64 --target member   -t REGISTRY/member:TAG .
#   docker buildx build --platform linux/amd64,linux/arm64 --target leader-elector -t REGISTRY/leader-elector:TAG .
#   docker buildx build --platform linux/amd64,linux/arm64 --target backup   -t REGISTRY/backup:TAG .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY internal internal
COPY leader leader
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    export CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH && \
    go build -trimpath -ldflags "-s -w -X github.com/quorate/quorate/internal/version.Version=$VERSION" -o /out/operator ./cmd/operator && \
    go build -trimpath -tags nethttpomithttp2 -ldflags "-s -w -X main.version=$VERSION" -o /out/member ./cmd/member && \
    go build -trimpath -ldflags "-s -w -X github.com/quorate/quorate/internal/version.Version=$VERSION" -o /out/leader-elector ./cmd/leader-elector && \
    go build -trimpath -ldflags "-s -w -X github.com/quorate/quorate/internal/version.Version=$VERSION" -o /out/backup ./cmd/backup

# The guard that members' pods start etcd with.
FROM scratch AS member
COPY --from=build /out/member /member
USER 65532:65532
ENTRYPOINT ["/member"]

# The leader-elector that runs beside applications.
FROM scratch AS leader-elector
COPY --from=build /out/leader-elector /leader-elector
USER 65532:65532
ENTRYPOINT ["/leader-elector"]

# What backs clusters up and restores them. Public authorities and time zones are in
# the binary, since it also runs in etcd's image.
FROM scratch AS backup
COPY --from=build /out/backup /backup
USER 65532:65532
ENTRYPOINT ["/backup"]

# The operator; the last stage, so that a plain build makes it.
FROM scratch AS operator
COPY --from=build /out/operator /operator
USER 65532:65532
ENTRYPOINT ["/operator"]
