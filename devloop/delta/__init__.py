"""Two trees and a build plan in, the layer with what changed out, or the reason why that is not proven.
Imported by adapters, explain.
"""
