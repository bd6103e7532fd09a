//go:build !linux || (!amd64 && !arm64)

package splice

// NewLoop starts the loop of choice for this system.
func NewLoop() (Loop, error) { return NewPortable(), nil }
