//go:build race

package sim

// slower is how much less is run under the race detector.
const slower = 16
