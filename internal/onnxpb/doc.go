// Package onnxpb holds the protocol buffer messages of the ONNX file format,
// generated from onnx.proto. Only package onnxio uses it.
package onnxpb

//go:generate go run ./gen
