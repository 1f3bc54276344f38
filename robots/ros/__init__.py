"""Robots of ROS 2, with or without a ROS installation.

messages          ROS messages as bytes (CDR) and as the axes of a contract: joints by name, stamps, units
transport         what carries the bytes; cyclonedds, zenoh and rclpy are the settings of one each
ros_robot         the robot: which topics are which axes, and which controller of ros2_control takes the commands
driver            that robot as a `RobotAdapter`
emulated          an emulated robot behind any of the transports, in a process of its own
"""
