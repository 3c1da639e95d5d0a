//go:build race

package intel_test

// raceDetector is true where everything takes several times as long.
const raceDetector = true
