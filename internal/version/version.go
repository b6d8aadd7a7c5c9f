// Package version is the stamp that the build puts into every binary.
package version

// Version is set by the linker: -X github.com/quorate/quorate/internal/version.Version=v1.2.3.
var Version = "devel"
