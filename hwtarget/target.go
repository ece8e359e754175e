// Package hwtarget describes the machines that thriftc compiles for.
package hwtarget

// Target is a machine to compile for.
type Target struct {
	Name string
}
