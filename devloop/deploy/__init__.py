"""What is applied beside images: manifests and Helm releases in, the calls that install, compare and remove
them out.
"""
