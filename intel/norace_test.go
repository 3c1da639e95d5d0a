//go:build !race

package intel_test

const raceDetector = false
